"""The commands of ``isthmus``, one module for each kind of work; heavy imports stand inside the functions."""
