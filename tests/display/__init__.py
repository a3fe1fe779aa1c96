"""The window on a real display, with a window manager: what no offscreen test can see."""
