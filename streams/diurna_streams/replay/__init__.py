"""The log again: tables made anew beside the live ones, compared with them, and put in their place."""
