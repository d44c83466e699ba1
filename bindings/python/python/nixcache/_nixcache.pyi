# The compiled module. Its public parts are described where they are exported.

from typing import Any

from . import Audited as Audited
from . import Cache as Cache
from . import Check as Check
from . import Closure as Closure
from . import Collected as Collected
from . import ContentAddress as ContentAddress
from . import Deviation as Deviation
from . import Difference as Difference
from . import Drained as Drained
from . import Finding as Finding
from . import Graph as Graph
from . import Hash as Hash
from . import NarInfo as NarInfo
from . import Progress as Progress
from . import PublicKey as PublicKey
from . import Pulled as Pulled
from . import Pushed as Pushed
from . import Queue as Queue
from . import Repaired as Repaired
from . import Root as Root
from . import SecretKey as SecretKey
from . import Signature as Signature
from . import Signed as Signed
from . import StorePath as StorePath
from . import TrustedKeys as TrustedKeys
from . import Verdict as Verdict
from . import Verified as Verified
from . import __version__ as __version__
from . import doctor as doctor

nar: Any
nixbase32: Any
