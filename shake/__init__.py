"""shake moves Amazon DynamoDB tables into MongoDB: a parallel full copy by a farm of processes."""

__version__ = "0.1.0"
