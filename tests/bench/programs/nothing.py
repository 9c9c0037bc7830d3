"""Nothing: what starting Python costs, here."""
