"""The page *Evaluate*: many images through attacks and detector, with live tables and rows."""
