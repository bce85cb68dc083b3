"""A worker beside Orthanc: standardize what arrives by rules, store results in their study, and send them on."""
