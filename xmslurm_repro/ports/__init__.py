"""What the services need of the world, as protocols. Implementations lie on the floors above."""
