//! Turns Twilio Call Events into Prometheus metrics.
