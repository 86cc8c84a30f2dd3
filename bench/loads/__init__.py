"""What the servers are put under, and what is measured meanwhile. Standard library only."""
