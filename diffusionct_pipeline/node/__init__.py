"""A worker beside Orthanc: what arrives there is standardized by rules, put back into its study and sent on."""
