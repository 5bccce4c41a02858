"""Reading DynamoDB: a client that rides out every fault, what tables and streams are, and what is asked of them."""

import logging

# At debug, botocore logs session tokens; at warning, a stack trace for each failed refresh.
logging.getLogger("botocore").setLevel(logging.ERROR)
