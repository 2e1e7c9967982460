"""tensorflow_model_server's flags that this server does not have: which it may ignore, which it refuses, and why."""

from __future__ import annotations

_BY_REASON = {
    "REST is the gateway's": "rest_api_port rest_api_num_threads rest_api_timeout_in_ms rest_api_enable_cors_support",
    "metrics are at --monitoring_port": "monitoring_config_file",
    "one event loop takes all calls": "grpc_max_threads",
    "models load one at a time, off the serving threads": "num_load_threads num_unload_threads flush_filesystem_caches",
    "--tensorflow_session_parallelism decides": "tensorflow_intra_op_parallelism tensorflow_inter_op_parallelism",
    "each warm-up record is run once": "num_request_iterations_for_warmup",
    "it is TensorFlow's own matter": "tensorflow_session_config_file remove_unused_fields_from_bundle_metagraph "
    "enable_signature_method_name_check xla_cpu_compilation_enabled xla_gpu_compilation_enabled enable_profiler "
    "thread_pool_factory_config_file skip_initialize_tpu per_process_gpu_memory_fraction num_tflite_pools "
    "num_tflite_interpreters_per_pool enable_per_model_batching_parameters",
}
IGNORED = {name: reason for reason, names in _BY_REASON.items() for name in names.split()}

REFUSED = {
    "ssl_config_file": "gRPC is not encrypted here; keep it on a Unix socket or loopback, and use the gateway's TLS",
    "use_alts_credentials": "gRPC is not encrypted here; keep it on a Unix socket or loopback",
    "mixed_precision": "use --precision",
    "platform_config_file": "there is one platform, tensorflow",
    "prefer_tflite_model": "TFLite models are not served",
    "saved_model_tags": "only graphs tagged `serve` are served",
}
