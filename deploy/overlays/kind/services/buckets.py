"""Make the buckets that an S3 server lacks: python buckets.py NAME...; server and keys from boto3's environment."""

import sys
import time

import boto3
from botocore.exceptions import BotoCoreError, ClientError

PATIENCE_SECONDS = 300


def make(names: list[str]) -> None:
    """Make each bucket; the server may still be starting. Raises what it last said after five minutes."""
    client = boto3.client("s3")
    end = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            there = {bucket["Name"] for bucket in client.list_buckets()["Buckets"]}
            for name in [name for name in names if name not in there]:
                client.create_bucket(Bucket=name)
                print(f"made {name}", flush=True)
            return
        except (BotoCoreError, ClientError) as error:
            if time.monotonic() > end:
                raise
            print(f"waiting: {error}", flush=True)
            time.sleep(2)


if __name__ == "__main__":
    make(sys.argv[1:])
