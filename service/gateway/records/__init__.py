"""Keeps records of requests: the audit log, and labelled images as feedback."""
