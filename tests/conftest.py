"""What holds for all tests."""

import signal
import threading

# What a shell runs in the background ignores Ctrl-C, and so would the programs to which tests send it.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)
