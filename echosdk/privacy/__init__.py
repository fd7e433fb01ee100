"""The gate between a privacy filter and what is published."""
