"""What tests share: corpora, servers, proxies, killed processes."""
