//! NVMe/TCP: the transport's framing, which both sides share, and the host's queue pairs.
