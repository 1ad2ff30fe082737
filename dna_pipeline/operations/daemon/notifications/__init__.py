"""Messages to people and programs about what happens: what they say, and how they are sent."""
