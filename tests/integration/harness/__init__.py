"""What the integration tests share: the program, and everything around it on loopback."""
