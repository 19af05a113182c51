"""What both services share: the envelope, the flow, the queue. It knows neither of them."""
