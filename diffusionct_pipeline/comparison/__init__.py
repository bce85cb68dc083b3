"""The paper's comparison: its systems behind one protocol, their training, and the study of all of them."""
