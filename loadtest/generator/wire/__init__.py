"""How one request goes over the wire, and what came back of it: HTTP and gRPC, on greenlets."""
