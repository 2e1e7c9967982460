"""Tests of service/in_process/."""
