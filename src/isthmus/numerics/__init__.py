"""Fast cores: arrays in, arrays out; they import nothing of isthmus but its errors."""
