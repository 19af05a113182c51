"""The address of an SQS queue, for the source and the sink alike: which queue, which region, whose credentials."""

from __future__ import annotations

import re
from typing import Any, ClassVar
from urllib.parse import urlsplit

from pydantic import ConfigDict, Field, SecretStr, field_validator

from millrace_pipeline.cafile import CaFileOption
from millrace_pipeline.extras import Extra
from millrace_pipeline.proxy import ProxyOption, of_botocore

_REGION = re.compile(r"sqs[.-]([a-z0-9-]+)\.amazonaws\.com(\.cn)?|([a-z0-9-]+)\.queue\.amazonaws\.com(\.cn)?")


class SqsAddress(ProxyOption, CaFileOption):
    """Which queue, and as whom it is asked."""

    model_config = ConfigDict(hide_input_in_errors=True)

    extra: ClassVar[Extra | None] = Extra("aws", module="boto3")

    url: str = Field(description="The queue's URL, such as https://sqs.eu-west-1.amazonaws.com/123456789012/orders.")
    region: str | None = Field(
        None, description="The queue's region. Default: as its URL says, else as AWS's own tools find it."
    )
    access_key: SecretStr | None = Field(
        None, description="Access key id. Default: credentials as AWS's own tools find them."
    )
    secret_key: SecretStr | None = Field(None, description="The secret access key that belongs to it.")
    session_token: SecretStr | None = Field(None, description="The session token, where they are temporary.")

    @field_validator("url")
    @classmethod
    def _a_queue_of_somebody(cls, url: str) -> str:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or len(parts.path) < 2 or parts.username:
            raise ValueError("expected a URL such as https://sqs.eu-west-1.amazonaws.com/123456789012/orders")
        return url

    def client_options(self) -> dict[str, Any]:
        """Return what boto3 is to be told of the address."""
        parts = urlsplit(self.url)
        match = _REGION.fullmatch(parts.hostname or "")
        options = {
            "region_name": self.region or (match and (match[1] or match[3])),
            "endpoint_url": None if match else f"{parts.scheme}://{parts.netloc}",
            "aws_access_key_id": self.access_key and self.access_key.get_secret_value(),
            "aws_secret_access_key": self.secret_key and self.secret_key.get_secret_value(),
            "aws_session_token": self.session_token and self.session_token.get_secret_value(),
        }
        return {name: value for name, value in options.items() if value}

    def client(self, **config: Any) -> Any:
        """Return a client with this configuration. Raises as boto3 does, OSError and ValueError."""
        import boto3
        from botocore.config import Config

        once = {"mode": "standard", "total_max_attempts": 1}  # waiting is the runner's
        configured = Config(retries=once, proxies=of_botocore(self.proxy), **config)
        verify = str(self.ca_file) if self.ca_file else True  # not what AWS_CA_BUNDLE, or a profile, says
        return boto3.session.Session().client("sqs", config=configured, verify=verify, **self.client_options())
