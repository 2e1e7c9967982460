"""Images in object storage: S3, Google Cloud Storage and Azure, by pyarrow.fs."""
