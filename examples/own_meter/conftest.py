"""Offers a meter of this site to system files: `power: {source: plugin, reader: acme-pdu, options: {...}}`."""


def pytest_agentperf_power_readers(config):
    # The sampler's process imports `acme_pdu` by name: it lies beside this file, or in an installed package.
    return {"acme-pdu": "acme_pdu:AcmePdu"}
