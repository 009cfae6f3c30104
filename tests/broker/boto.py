"""Calls S3 by the SDK of AWS over a bridge, whose token stands where the id of a key does. Claviger signs it anew."""

import os

import boto3

with open(os.environ["TOKEN_FILE"]) as file:
    token = file.read()
base = os.environ["CLAVIGER_BRIDGE"] + "/upstreams/api"
made = boto3.client(
    "s3", endpoint_url=base, region_name="us-east-1", aws_access_key_id=token, aws_secret_access_key="none"
)
made.put_object(Bucket="bucket", Key="folder/a key", Body=b"some bytes")
print("boto3", made.get_object(Bucket="bucket", Key="folder/a key")["Body"].read().decode())
