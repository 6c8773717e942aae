def test_a(tiny_run):
    print(tiny_run.metrics)
