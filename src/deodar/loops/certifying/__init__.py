"""Gets domains of apps that have ACM on their certificates, and renews them (devcenter: automated-certificate-management)."""
