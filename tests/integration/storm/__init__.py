"""A seeded storm: random clients against faulty origins, and what may become of each request."""
