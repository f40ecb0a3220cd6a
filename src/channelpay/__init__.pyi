from channelpay.services.client import Client as Client
from channelpay.services.connect import Node as Node
from channelpay.services.connect import connect as connect
from channelpay.services.exceptions import TRANSIENT as TRANSIENT
from channelpay.services.exceptions import AddressError as AddressError
from channelpay.services.exceptions import AmountError as AmountError
from channelpay.services.exceptions import ChannelpayError as ChannelpayError
from channelpay.services.exceptions import NotReachable as NotReachable
from channelpay.services.exceptions import PartlyPaid as PartlyPaid
from channelpay.services.exceptions import PaymentUnknown as PaymentUnknown
from channelpay.services.exceptions import Reason as Reason
from channelpay.services.exceptions import Refused as Refused
from channelpay.services.exceptions import StoreFailed as StoreFailed
from channelpay.services.ids import new_payment_id as new_payment_id
from channelpay.services.values import Balance as Balance
from channelpay.services.values import Channel as Channel
from channelpay.services.values import PaidMany as PaidMany
from channelpay.services.values import Payment as Payment
from channelpay.services.values import PaymentState as PaymentState
from channelpay.services.values import PaymentStatus as PaymentStatus
from channelpay.services.values import ReceivedBatch as ReceivedBatch
from channelpay.services.values import ReceivedPayment as ReceivedPayment

__version__: str
