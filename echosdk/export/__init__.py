"""Other formats of a generated dataset: plain videos, the layout of a data source that can write, a gallery."""
