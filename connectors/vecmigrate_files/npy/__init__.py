"""Arrays of NumPy's as collections."""
