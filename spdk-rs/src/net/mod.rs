//! Sockets on a reactor: listeners and byte streams, on the reactor's ring or by readiness.
