"""The one renderer of pages: preview and scorecard."""
