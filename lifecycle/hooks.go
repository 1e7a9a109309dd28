//go:build tokenfs_torture

package lifecycle

// ordersVar names the file with a test's orders to the workers.
const ordersVar = "_TOKENFS_ORDERS"

var hookVars = []string{ordersVar}
