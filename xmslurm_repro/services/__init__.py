"""The steps of each command, in order. They compute first and act last, through tools."""
