/* The kernel's interval tree with the iterator that is left out where nothing selects it. The kernel exports the rest. */
#define CONFIG_INTERVAL_TREE_SPAN_ITER 1
#include <linux/export.h>
#undef EXPORT_SYMBOL_GPL
#define EXPORT_SYMBOL_GPL(symbol)
#include "../../../lib/interval_tree.c"
