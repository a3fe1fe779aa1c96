"""Widgets used by several pages; they know numpy arrays and the parameter schema, never torch."""
