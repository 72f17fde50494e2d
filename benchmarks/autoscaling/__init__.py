"""What to scale on: a measured replica, and a simulated fleet of them."""
