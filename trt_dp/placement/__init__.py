"""Which devices and cores there are, and which worker gets which."""
