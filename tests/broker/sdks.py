"""Calls an API through the socket of its upstream, by the libraries that people use. None of them has the key."""

import os
import sys

socket = sys.argv[1]

import httpx

client = httpx.Client(transport=httpx.HTTPTransport(uds=socket))
print("httpx", client.get("http://localhost/v1/balance").json()["text"])

import requests
import requests_unixsocket

session = requests_unixsocket.Session()
url = "http+unix://" + socket.replace("/", "%2F")
print("requests", session.get(url + "/v1/balance").json()["text"])

import httpx2
import openai

client = httpx2.Client(transport=httpx2.HTTPTransport(uds=socket))
made = openai.OpenAI(api_key="not-the-key", base_url="http://localhost/v1", http_client=client, max_retries=0)
answer = made.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
print("openai", answer.choices[0].message.content)

import anthropic

made = anthropic.Anthropic(api_key="not-the-key", base_url="http://localhost", http_client=client, max_retries=0)
answer = made.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}])
print("anthropic", answer.content[0].text)

import stripe

made = stripe.StripeClient(
    "not-the-key", base_addresses={"api": url}, http_client=stripe.RequestsClient(session=session)
)
print("stripe", made.v1.balance.retrieve()["text"])

# Over a bridge on the loopback, whose token is the key that they think they have.
base = os.environ["CLAVIGER_BRIDGE"] + "/upstreams/api"
with open(os.environ["TOKEN_FILE"]) as file:
    token = file.read()
answer = requests.get(base + "/v1/balance", headers={"Authorization": "Bearer " + token})
print("requests", answer.json()["text"])
made = openai.OpenAI(api_key=token, base_url=base + "/v1", max_retries=0)
answer = made.chat.completions.create(model="m", messages=[{"role": "user", "content": "hi"}])
print("openai", answer.choices[0].message.content)
made = anthropic.Anthropic(api_key=token, base_url=base, max_retries=0)
answer = made.messages.create(model="m", max_tokens=1, messages=[{"role": "user", "content": "hi"}])
print("anthropic", answer.content[0].text)

# Those that take a URL and no socket have the bridge's token for a key. Pages that an answer links to are reached through it too.
import github

made = github.Github(base_url=base, auth=github.Auth.Token(token))
print("github", [repository.name for repository in made.get_user().get_repos()][-1])

import boto3

made = boto3.client(
    "s3", endpoint_url=base, region_name="eu-west-1", aws_access_key_id=token, aws_secret_access_key="none"
)
print("boto3", made.get_object(Bucket="bucket", Key="key")["Body"].read().decode())
