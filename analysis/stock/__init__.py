"""What records of Xen alone tell: the analysis of stock xentrace captures (docs/stock.md).

A fold over the records in time order: `steps` picks those that matter, `machine` walks them with
the state of each pCPU and vCPU, `hypercalls` measures calls column by column; `wakes`, `waits`,
`rounds` and `order` hold what is found, in sketches and counters; `tables` shows it.
"""
