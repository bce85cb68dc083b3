"""The paper's comparison: its systems behind one protocol, how they are trained, and the study of all of them."""
