"""asgi-tus without a framework around it, which is when it is fastest."""

import logging
import os

import structlog
from asgi_tus import ASGITusApp, FileStorage, TusConfig

structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.WARNING))
app = ASGITusApp(FileStorage(os.environ["STORE"]), TusConfig(max_size=1 << 40))
