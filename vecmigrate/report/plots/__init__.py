"""Plots of reports, each an SVG with what it shows in words and as a table."""
