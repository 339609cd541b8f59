"""The provider IBM Quantum: an instance of the service, over its REST API."""

from gateway.providers.ibm.health import HealthRecord
from gateway.providers.ibm.iam import IAM_URL, IamExchange
from gateway.providers.ibm.payloads import Payloads
from gateway.providers.ibm.provider import IbmProvider
from gateway.providers.ibm.settings import CircuitFormat, CircuitProgram, IbmSettings

__all__ = [
    "IAM_URL",
    "CircuitFormat",
    "CircuitProgram",
    "HealthRecord",
    "IamExchange",
    "IbmProvider",
    "IbmSettings",
    "Payloads",
]
