-- HAProxy before 2.4 has no sample of this name: the weight of "backend/server" as a person would set it.
core.register_fetches("srv_uweight", function(_, path)
    local backend, server = path:match("([^/]+)/(.+)")
    return core.backends[backend].servers[server]:get_stats().weight
end)
