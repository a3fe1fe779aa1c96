"""The paper's figures, made anew of any bundle and data: layout.py, paper.py (what they show), svg.py, png.py."""
