package faults

const launcherName = "launcher"

func launcherMain() {}
