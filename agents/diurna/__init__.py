"""What an author of an agent imports."""
