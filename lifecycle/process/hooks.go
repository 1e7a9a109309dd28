//go:build tokenfs_torture

package process

// OrdersVar names the file with a test's orders to the workers.
const OrdersVar = "_TOKENFS_ORDERS"

var hookVars = []string{OrdersVar}
